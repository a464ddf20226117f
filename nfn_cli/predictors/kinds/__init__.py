"""predictors/kinds/: the kinds of models a predictor may be made of; one file each. No card, no interval, no command."""
