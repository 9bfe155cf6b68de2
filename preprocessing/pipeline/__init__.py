"""The Beam job: plan, graph, workers and commit."""
