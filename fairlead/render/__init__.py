"""The one renderer: messages to tokens, role spans, loss mask and stops, for training, generation, judging and serving.

renderer = Renderer(tokenizer)
renderer.prompt([{"role": "user", "content": "hi"}])    # what generation is given
renderer.example(prompt, completion)                    # what training is given
"""

from fairlead.render.renderer import ChatStrings, Rendered, Renderer, Span

__all__ = ["ChatStrings", "Rendered", "Renderer", "Span"]
