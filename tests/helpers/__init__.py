"""What tests share: small sets, commands as typed, and pages that are run."""
