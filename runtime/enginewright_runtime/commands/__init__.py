"""The runtime's sub-commands of `enginewright`. Light to import: what is heavy is imported when a command runs."""
