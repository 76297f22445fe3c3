"""Methods that only run the model on changed inputs."""
