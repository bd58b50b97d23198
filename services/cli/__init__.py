"""What a person does by command: look at dead letters and decide about them, rebuild the read model."""

# operators see this name in application_name, as the name of the role and of the service of compose
SERVICE = "operate"
