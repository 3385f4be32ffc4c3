"""An app in a package.

app = FastAPI() in a docstring is none.
"""

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

api = FastAPI(title="corpus")


@api.get("/", response_class=PlainTextResponse)
def greeting() -> str:
    return "corpus python-pip-fastapi\n"
