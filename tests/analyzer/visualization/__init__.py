"""Tests of what a network holds inside."""
