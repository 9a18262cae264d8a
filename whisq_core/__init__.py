"""The WhisQ model and its science: corpus, features, model, training, metrics."""
