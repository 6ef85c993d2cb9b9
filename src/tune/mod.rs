//! Search over hyper-parameters: many short trainings, of which the better ones are repeated for longer.
//!
//! [`space`] says what may vary and [`points`] where in it to look; [`scheduler`] decides what to train next, a pure function of
//! what is known; [`cost`] guesses how long that takes; [`journal`] keeps what was found; [`run`] is the loop, [`records`] and
//! [`plots`] what it leaves behind. Only the training and validation parts of a data set are ever seen here.

pub mod cost;
pub mod journal;
pub mod plots;
pub mod points;
pub mod records;
pub mod run;
pub mod scheduler;
pub mod space;
