"""Using trained networks: load, predict, evaluate, suggest, export."""
