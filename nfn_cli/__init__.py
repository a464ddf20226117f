"""nfn_cli: symmetries of trained networks, and predictors that are exactly blind to them."""
