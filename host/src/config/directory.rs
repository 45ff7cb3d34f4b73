//! The data directory on disk: made when it is missing, checked for being writable, its optional files read.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use super::ConfigError;

/// Makes the directory with mode 0700 unless it is there, and checks that files can be made in it.
/// The mode of a directory that is already there is its owner's business: the files in it have narrow modes of their own.
pub fn prepare(path: &Path) -> Result<(), ConfigError> {
    let failed = |step| move |source| ConfigError::Directory { step, path: path.to_owned(), source };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed("create"))?;
    rustix::fs::access(path, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK)
        .map_err(|error| failed("write to")(error.into()))?;
    let mode = std::fs::metadata(path).map_err(failed("inspect"))?.mode() & 0o777;
    if mode & 0o022 != 0 {
        tracing::warn!(path = %path.display(), mode = format!("{mode:o}"), "others can write to the data directory");
    }
    Ok(())
}

/// The file's text; `None` when there is no such file.
pub(super) fn read_optional(path: &Path) -> Result<Option<String>, ConfigError> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ConfigError::Read { path: path.to_owned(), message: error.to_string() }),
    }
}

/// The variables of a `.env` file; none when there is no such file.
pub(super) fn read_dotenv(path: &Path) -> Result<BTreeMap<String, String>, ConfigError> {
    let Some(text) = read_optional(path)? else { return Ok(BTreeMap::new()) };
    // The parser's message quotes the line, which may hold a secret; its place is enough.
    let wrong = |error: dotenvy::Error| {
        let message = match error {
            dotenvy::Error::LineParse(_, place) => format!("a line cannot be read at its character {place}"),
            _ => "a line cannot be read".to_owned(),
        };
        ConfigError::Read { path: path.to_owned(), message }
    };
    dotenvy::from_read_iter(text.as_bytes()).map(|item| item.map_err(wrong)).collect()
}
