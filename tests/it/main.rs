//! The integration tests, in one binary so that they are linked once.

mod answers;
mod broker;
mod config;
mod demo;
mod journeys;
mod crash;
mod delivery;
mod lifecycle;
mod rooms;
mod privacy;
mod docs;
mod schemas;
mod support;
mod tidy;
