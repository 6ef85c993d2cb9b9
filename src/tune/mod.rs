//! Search over hyper-parameters: many short trainings, of which the better ones are repeated for longer.
//!
//! [`space`] says what may vary, [`points`] where in it to look and [`configuration`] what a point means; [`scheduler`] decides what
//! to train next, a pure function of what is known; [`cost`] guesses how long that takes and `plan` fits it into the time;
//! [`journal`] keeps what was found; [`run`] is the loop, [`records`], [`figures`] and [`report`] what it leaves behind. Only the
//! training and validation parts of a data set are ever seen here.

pub mod configuration;
pub mod cost;
pub mod figures;
pub mod journal;
mod plan;
pub mod points;
pub mod records;
pub mod report;
pub mod run;
pub mod scheduler;
pub mod settings;
pub mod space;
