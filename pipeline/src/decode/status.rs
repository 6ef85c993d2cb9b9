//! What became of one image file: the closed list of statuses, and the failure that carries one.
//!
//! A failure here is a row of the output, never the end of a run.

use std::fmt;

use serde::Serialize;

/// What became of one image file; the value of the output's `status` column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// Classified.
    Ok,
    /// Classified, but the file is damaged.
    Degraded,
    /// Could not be opened: permission denied, or not a regular file.
    Unreadable,
    /// The content is not that of any image format known here.
    NotAnImage,
    /// An image, of a format or variant that is not decoded here.
    Unsupported,
    /// An image whose content breaks its format's rules.
    Corrupt,
    /// Over one of the limits; refused before memory was taken.
    TooLarge,
    /// Gone between the walk and the reading.
    Vanished,
    /// The file system failed while the file was read.
    ReadError,
    /// Decoded, but the model gave no finite numbers for it.
    ModelError,
}

impl Status {
    /// Every status, in the order in which they are reported.
    pub const ALL: [Self; 10] = [
        Self::Ok,
        Self::Degraded,
        Self::Unreadable,
        Self::NotAnImage,
        Self::Unsupported,
        Self::Corrupt,
        Self::TooLarge,
        Self::Vanished,
        Self::ReadError,
        Self::ModelError,
    ];

    /// The word in the `status` column.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Degraded => "degraded",
            Self::Unreadable => "unreadable",
            Self::NotAnImage => "not_an_image",
            Self::Unsupported => "unsupported",
            Self::Corrupt => "corrupt",
            Self::TooLarge => "too_large",
            Self::Vanished => "vanished",
            Self::ReadError => "read_error",
            Self::ModelError => "model_error",
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.as_str())
    }
}

/// Why one image could not be classified.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// The class of failure; never [`Status::Ok`] or [`Status::Degraded`].
    pub status: Status,
    /// One sentence for a person.
    pub message: String,
}

impl Fault {
    /// A failure of class `status`, explained by `message`.
    pub fn new(status: Status, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_complete_and_the_words_are_those_of_the_serialised_form() {
        for (place, status) in Status::ALL.into_iter().enumerate() {
            assert_eq!(status as usize, place, "{status} is out of place");
            assert_eq!(serde_json::to_value(status).unwrap(), status.as_str());
        }
    }
}
