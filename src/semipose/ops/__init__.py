"""Geometry, heatmaps and moving averages: functions on tensors."""
