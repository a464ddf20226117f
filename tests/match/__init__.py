"""Tests of match/."""
