"""Scenes drawn by code: objects on grounds, with a cue that can mislead."""
