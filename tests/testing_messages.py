"""Messages of a chat, for tests of the layouts of rows."""

IMAGE = {"type": "image"}
SYSTEM = {"role": "system", "content": "Be brief."}


def text(words):
    return {"type": "text", "text": words}


def user(content):
    return {"role": "user", "content": content}


def assistant(content):
    return {"role": "assistant", "content": content}
