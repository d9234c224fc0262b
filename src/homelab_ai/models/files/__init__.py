"""The files of models: where they are on this machine, and how they come from the hub."""
