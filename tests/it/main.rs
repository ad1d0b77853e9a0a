//! The integration tests, in one binary so that they are linked once.

mod broker;
mod config;
mod journeys;
mod schemas;
mod support;
mod tidy;
