"""Writers of models, one file per target."""
