//! The integration tests, in one binary so that they are linked once.

mod answers;
mod broker;
mod config;
mod crash;
mod delivery;
mod journeys;
mod lifecycle;
mod privacy;
mod schemas;
mod support;
mod tidy;
