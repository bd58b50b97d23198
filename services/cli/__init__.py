"""What a person does by command: look at dead letters and decide about them, rebuild the read model."""
