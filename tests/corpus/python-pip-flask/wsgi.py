from flask import Flask

application = Flask(__name__)


@application.get("/")
def greeting():
    return "corpus python-pip-flask\n"
