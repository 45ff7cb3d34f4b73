//! The tool from its arguments to its answer, on outputs that were captured from real systems (`testdata/README.md`).
