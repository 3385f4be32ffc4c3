.PHONY: help demo test test-all images lint soak

help:
	@echo 'make demo      upload a Node app, run it in a container, change it: the whole way on this machine'
	@echo 'make test      everything a commit needs'
	@echo 'make test-all  the same, what is slow, and the demo'
	@echo 'make soak      everything at once for an hour, behind faults (scripts/soak SECONDS for less)'
	@echo 'make images    workspace:latest, the images of the runtimes, the monitor'
	@echo 'make lint      formatting, clippy, cargo-deny, shellcheck, hadolint'

demo:
	@scripts/demo

test:
	@scripts/test

test-all:
	@scripts/test --all

images:
	@scripts/setup
	@scripts/images

lint:
	@scripts/lint

soak:
	@scripts/setup --tests
	@scripts/soak
