"""Names of the trainer's files that preprocessing reads, too. Standard library only."""

CONFIG_NAME = "config.json"  # of a run: its settings, the metadata of its dataset, and what it descends from
CHAMPION_NAME = "champion.json"  # of a folder of models: the candidate that is in use
