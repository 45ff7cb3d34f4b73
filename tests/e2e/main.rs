//! End to end: the program as an MCP client sees it, over stdio, against real servers.
//!
//! Each module is one subject. What can be seen inside a module of the program is tested there.

mod support;

mod protocol;
mod servers;
mod exec;
mod many;
mod wire;
mod host_keys;
mod trust;
mod dropbear;
mod proxies;
mod proxy_logins;
mod old_servers;
mod asking;
mod questions;
mod import;
mod login;
mod keys;
mod bad_input;
mod start;
mod streaming;
mod sequence;
mod interactive;
mod shells;
mod quoting;
mod sudo;
mod many_runs;
mod faults;
mod refusals;
mod transfer;
mod transfer_faults;
mod jobs;
mod tasks;
mod turns;
mod crash;
mod crash_points;
mod daemon;
mod detached;
mod handshake;
mod plugins;
mod spawn;
mod http;
mod api;
mod readme_plugin;
mod javascript;
mod fail2ban;
mod logs;
mod services;
mod clients;
mod lab;
mod seed;
mod secrets;
mod tidy;
