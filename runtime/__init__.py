"""What a built model needs to run, to train and to be measured."""
