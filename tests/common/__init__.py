"""Checks that everything registered must pass: each method on tiny models, whatever it does inside."""
