"""Multi-stage systems that a recipe cannot say."""
