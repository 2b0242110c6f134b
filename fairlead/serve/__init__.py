"""Engines behind an OpenAI-style server: any client can use any decoding method."""
