//! The shipped configuration in a real Envoy, against real Redis and Sentinels, under real failures.

mod harness;
