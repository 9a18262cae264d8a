"""The harness around the model: it plans, computes, judges and shows ablation tables and searches.

Rooms, highest first; each package exports its doors: `cli`; `doctor`, `demo`; `ablation` and `search` (the commands);
`report` (figures, page), `engine` (plan, workers), `evaluate`; `tables` (columns, formats), `dashboard`; `audit`,
`results` (stored runs as values); `store` (the database), `config` (the file); `stats`, `published`, `terminal`.
"""
