.PHONY: help demo test test-all images lint bench micro soak

help:
	@echo 'make demo      upload a Node app, run it in a container, change it: the whole way on this machine'
	@echo 'make test      everything a commit needs'
	@echo 'make test-all  the same, what is slow, and the demo'
	@echo 'make soak      everything at once for an hour, behind faults (scripts/soak SECONDS for less)'
	@echo 'make images    workspace:latest, the images of the runtimes, the monitor'
	@echo 'make lint      formatting, clippy, dependencies, shellcheck, hadolint'
	@echo 'make bench     speed beside s5cmd, rclone, aws and restic (docs/benchmarks.md)'
	@echo 'make micro     speed of the parts: hashing, chunking, framing, manifests'

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

bench:
	@scripts/bench $(ARGS)

micro:
	@cargo bench --locked --bench micro

soak:
	@scripts/setup --tests
	@scripts/soak
