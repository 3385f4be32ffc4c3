import os

from bottle import route, run


@route("/")
def index():
    return "corpus python-declared"


run(host=os.environ["HOST"], port=int(os.environ["PORT"]))
