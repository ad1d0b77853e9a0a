//! The integration tests, in one binary so that they are linked once.

mod answers;
mod audit;
mod bench;
mod broker;
mod commands;
mod config;
mod cost;
mod crash;
mod delivery;
mod demo;
mod docs;
mod guard;
mod journeys;
mod ledger;
mod lifecycle;
mod orders;
mod pressure;
mod privacy;
mod replicas;
mod rooms;
mod schemas;
mod staff;
mod support;
mod tidy;
mod tls;
mod torture;
