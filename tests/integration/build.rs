//! `nix-cache build`: real builds that succeed and that fail, one for each category of failure, with every Nix that is here.

mod categories;
mod history;
mod project;
mod reports;
mod retries;
mod secrets;
mod server;
mod steps;
