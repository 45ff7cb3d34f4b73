//! Everything that a person does twice: `cargo xtask setup | build | demo | test | clients | lab | compare | bench | lint | install | component`.
//!
//! One file per verb. Nothing of the program itself is here.

mod bench;
mod build;
mod clients;
mod compare;
mod component;
mod demo;
mod install;
mod javascript;
mod lab;
mod lint;
mod plugins;
mod process;
mod setup;
mod test;
mod wasm;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Everything that a person does twice")]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Install what this machine lacks: the WebAssembly target, and sshd and login shells for the tests
    Setup,
    /// Build the plugins to components, then the program with them inside
    Build(build::Arguments),
    /// Show the tour: a client, the program, a server, a plugin, all real
    Demo(demo::Arguments),
    /// Set up, build and run every test
    Test(test::Arguments),
    /// Try the program with the MCP clients that people have: the SDKs for Python and TypeScript, the inspector
    Clients,
    /// Real hosts for the tests, as containers on this machine: up, down, status
    Lab {
        #[command(subcommand)]
        verb: lab::Verb,
    },
    /// Compare facts with those of the Node project that this one replaces, on a host of the lab
    Compare,
    /// Measure speed and memory
    Bench(bench::Arguments),
    /// Check formatting, lints, and licences and advisories of dependencies
    Lint,
    /// Build for release and copy the program to where cargo installs programs
    Install(install::Arguments),
    /// Build any plugin crate to a component
    Component(component::Arguments),
}

fn main() -> ExitCode {
    match run(Arguments::parse().verb) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Whoever sees this can do something about the message, not about a backtrace.
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: Verb) -> anyhow::Result<()> {
    match verb {
        Verb::Setup => setup::run(),
        Verb::Build(arguments) => build::run(&arguments),
        Verb::Demo(arguments) => demo::run(&arguments),
        Verb::Test(arguments) => test::run(&arguments),
        Verb::Clients => clients::run(),
        Verb::Lab { verb } => lab::run(&verb),
        Verb::Compare => compare::run(),
        Verb::Bench(arguments) => bench::run(&arguments),
        Verb::Lint => lint::run(),
        Verb::Install(arguments) => install::run(&arguments),
        Verb::Component(arguments) => component::run(&arguments),
    }
}
