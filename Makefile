# Each target is one line to a command that can be run by itself.
.PHONY: demo demo-stop test test-long conformance bench install

demo: ; scripts/demo.sh
demo-stop: ; scripts/demo-stop.sh
test: ; scripts/test.sh
test-long: ; scripts/test.sh --long
conformance: ; scripts/conformance.sh
bench: ; scripts/bench.sh
install: ; scripts/install.sh
