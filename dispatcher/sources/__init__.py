"""Sources: reading the campaign folder (campaign.toml, recipients lists, templates, secrets)."""
