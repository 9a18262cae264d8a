"""The WhisQ model and its science: it knows nothing of tables, databases or the command line.

Rooms, highest first: `training` (one step), `encoders`, `controls`; `model` (Eqs. 2-7 and 10); `features`, `corpus`,
`device`, `kernels`, `metrics`; `spec` (every setting and what it affects), `files`, `errors`.
"""
