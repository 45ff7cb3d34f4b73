//! Everything that a person does twice: set up, build, demo, test, lint, install.
fn main(){}
