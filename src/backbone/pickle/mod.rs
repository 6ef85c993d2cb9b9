//! A reader of the few parts of Python's pickle format that a file of tensors is made of.
//!
//! A pickle is a program for a stack machine, and in general it may call any Python function. Here nothing is called: the machine
//! knows the opcodes by which PyTorch writes an `OrderedDict` of tensors, and every other opcode and every other name is an error.
//! What the tensors hold is not in the pickle; `torch_file` finds it.
//!
//! Nothing grows faster than the pickle is long: an opcode makes at most one value, copies share what they copy, and values are
//! nested no deeper than a file of tensors needs.

mod value;

use std::collections::BTreeMap;
use std::rc::Rc;

use anyhow::{Context, Result, bail, ensure};

use value::{Global, Storage, Tuple};

pub(super) use value::{Element, TensorRecord, Value};

/// Longest pickle that is read. That of a network of 400 tensors takes 60 kB.
const MAX_BYTES: usize = 1 << 20;
/// Longest name of a Python module or function.
const MAX_NAME: usize = 64;

#[derive(Clone, Debug)]
enum Container {
    Dict(Vec<(Value, Value)>),
    List(Vec<Value>),
}

/// What a pickle made.
#[derive(Debug)]
pub(super) struct Unpickled {
    value: Value,
    containers: Vec<Container>,
    /// How many bytes the pickle takes.
    pub length: usize,
}

impl Unpickled {
    /// Keys and values, if the pickle is a dictionary.
    pub fn entries(&self) -> Option<&[(Value, Value)]> {
        match self.container()? {
            Container::Dict(entries) => Some(entries),
            Container::List(_) => None,
        }
    }

    /// The elements, if the pickle is a list.
    pub fn elements(&self) -> Option<&[Value]> {
        match self.container()? {
            Container::List(elements) => Some(elements),
            Container::Dict(_) => None,
        }
    }

    fn container(&self) -> Option<&Container> {
        match self.value {
            Value::Container(index) => self.containers.get(index),
            _ => None,
        }
    }
}

/// Reads the pickle at the beginning of `bytes`; what is behind it is not looked at.
///
/// # Errors
/// When the pickle ends too early, or holds anything but what this module knows.
pub(super) fn read(bytes: &[u8]) -> Result<Unpickled> {
    let mut machine = Machine {
        rest: bytes.get(..MAX_BYTES).unwrap_or(bytes),
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        containers: Vec::new(),
    };
    let whole = machine.rest.len();
    loop {
        let position = whole - machine.rest.len();
        let opcode = machine.byte()?;
        if opcode == b'.' {
            break;
        }
        machine
            .step(opcode)
            .with_context(|| format!("at byte {position} of the pickle"))?;
    }
    let value = machine.pop()?;
    ensure!(
        machine.stack.is_empty() && machine.marks.is_empty(),
        "the pickle leaves values over"
    );
    Ok(Unpickled {
        value,
        length: whole - machine.rest.len(),
        containers: machine.containers,
    })
}

struct Machine<'a> {
    rest: &'a [u8],
    stack: Vec<Value>,
    /// Heights of the stack that were marked.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
    containers: Vec<Container>,
}

impl<'a> Machine<'a> {
    /// Opcodes by the names of Python's `pickletools`.
    fn step(&mut self, opcode: u8) -> Result<()> {
        match opcode {
            // PROTO
            0x80 => {
                let protocol = self.byte()?;
                ensure!(
                    protocol == 2,
                    "the pickle has protocol {protocol}, not 2, which PyTorch writes"
                );
            }
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            // BININT, BININT1, BININT2
            b'J' => {
                let number = i32::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(number.into()));
            }
            b'K' => {
                let number = self.byte()?;
                self.stack.push(Value::Int(number.into()));
            }
            b'M' => {
                let number = u16::from_le_bytes(self.array()?);
                self.stack.push(Value::Int(number.into()));
            }
            // BINUNICODE
            b'X' => {
                let length = u32::from_le_bytes(self.array()?);
                let bytes = self.take(usize::try_from(length)?)?;
                let text = std::str::from_utf8(bytes).context("a text is not UTF-8")?;
                self.stack.push(Value::Text(text.into()));
            }
            // BINPUT, LONG_BINPUT, BINGET, LONG_BINGET
            b'q' => {
                let index = self.byte()?;
                self.remember(index.into())?;
            }
            b'r' => {
                let index = u32::from_le_bytes(self.array()?);
                self.remember(index)?;
            }
            b'h' => {
                let index = self.byte()?;
                self.recall(index.into())?;
            }
            b'j' => {
                let index = u32::from_le_bytes(self.array()?);
                self.recall(index)?;
            }
            // MARK
            b'(' => self.marks.push(self.stack.len()),
            // EMPTY_TUPLE, TUPLE, TUPLE1, TUPLE2, TUPLE3
            b')' => self.push_tuple(Vec::new())?,
            b't' => {
                let values = self.pop_marked()?;
                self.push_tuple(values)?;
            }
            0x85..=0x87 => {
                let values = self.pop_many(usize::from(opcode - 0x84))?;
                self.push_tuple(values)?;
            }
            // EMPTY_DICT, EMPTY_LIST
            b'}' => self.push_container(Container::Dict(Vec::new())),
            b']' => self.push_container(Container::List(Vec::new())),
            // SETITEM, SETITEMS
            b's' => {
                let values = self.pop_many(2)?;
                self.set_items(values)?;
            }
            b'u' => {
                let values = self.pop_marked()?;
                self.set_items(values)?;
            }
            // APPEND, APPENDS
            b'a' => {
                let values = self.pop_many(1)?;
                self.append(values)?;
            }
            b'e' => {
                let values = self.pop_marked()?;
                self.append(values)?;
            }
            // GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack
                    .push(Value::Global(Global::named(&module, &name)?));
            }
            // BINPERSID
            b'Q' => {
                let reference = self.pop()?;
                self.stack
                    .push(Value::Storage(Rc::new(Storage::from_reference(
                        &reference,
                    )?)));
            }
            // REDUCE
            b'R' => self.call()?,
            // BUILD: attributes of a dictionary, which hold versions of layers and nothing of a tensor.
            b'b' => {
                let state = self.pop()?;
                let known = matches!(
                    (self.stack.last(), &state),
                    (Some(Value::Container(_)), Value::Container(_))
                );
                ensure!(known, "something other than a dictionary gets attributes");
            }
            _ => bail!("the opcode 0x{opcode:02x} is none of those that files of tensors have"),
        }
        Ok(())
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count).with_context(|| {
            format!("the pickle ends too early, or is longer than {MAX_BYTES} bytes")
        })?;
        self.rest = rest;
        Ok(taken)
    }

    fn array<const COUNT: usize>(&mut self) -> Result<[u8; COUNT]> {
        Ok(self.take(COUNT)?.try_into()?)
    }

    fn byte(&mut self) -> Result<u8> {
        let [byte] = self.array()?;
        Ok(byte)
    }

    /// A name that ends with its line.
    fn line(&mut self) -> Result<String> {
        let window = self.rest.get(..MAX_NAME).unwrap_or(self.rest);
        let length = window
            .iter()
            .position(|&byte| byte == b'\n')
            .context("a name has no end")?;
        let name = String::from_utf8_lossy(self.take(length)?).into_owned();
        self.take(1)?;
        Ok(name)
    }

    /// The value on top of the stack, but none from below the last mark.
    fn pop(&mut self) -> Result<Value> {
        let floor = self.marks.last().copied().unwrap_or(0);
        ensure!(self.stack.len() > floor, "a value is missing");
        self.stack.pop().context("a value is missing")
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let start = self.stack.len().checked_sub(count);
        match start {
            Some(start) if start >= floor => Ok(self.stack.split_off(start)),
            _ => bail!("values are missing"),
        }
    }

    fn pop_marked(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().context("a mark is missing")?;
        ensure!(mark <= self.stack.len(), "values are missing");
        Ok(self.stack.split_off(mark))
    }

    fn push_tuple(&mut self, values: Vec<Value>) -> Result<()> {
        self.stack.push(Value::Tuple(Tuple::new(values)?));
        Ok(())
    }

    fn push_container(&mut self, container: Container) {
        self.stack.push(Value::Container(self.containers.len()));
        self.containers.push(container);
    }

    /// The container on top of the stack, which stays there.
    fn container(&mut self) -> Result<&mut Container> {
        match self.stack.last() {
            Some(&Value::Container(index)) => self.containers.get_mut(index),
            _ => None,
        }
        .context("a dictionary or a list is missing")
    }

    fn set_items(&mut self, values: Vec<Value>) -> Result<()> {
        ensure!(values.len().is_multiple_of(2), "a key has no value");
        let Container::Dict(entries) = self.container()? else {
            bail!("a list is used as a dictionary");
        };
        let mut values = values.into_iter();
        while let (Some(key), Some(value)) = (values.next(), values.next()) {
            entries.push((key, value));
        }
        Ok(())
    }

    fn append(&mut self, values: Vec<Value>) -> Result<()> {
        let Container::List(elements) = self.container()? else {
            bail!("a dictionary is used as a list");
        };
        elements.extend(values);
        Ok(())
    }

    fn remember(&mut self, index: u32) -> Result<()> {
        let value = self.stack.last().context("a value is missing")?.clone();
        self.memo.insert(index, value);
        Ok(())
    }

    fn recall(&mut self, index: u32) -> Result<()> {
        let value = self.memo.get(&index);
        let value = value.with_context(|| format!("value {index} was never stored"))?;
        self.stack.push(value.clone());
        Ok(())
    }

    /// What a function would return: an empty dictionary or a tensor. No other function is known.
    fn call(&mut self) -> Result<()> {
        let arguments = self.pop()?;
        let function = self.pop()?;
        let Value::Tuple(arguments) = arguments else {
            bail!("a function is called without a tuple of arguments");
        };
        match (function, arguments.values()) {
            (Value::Global(Global::OrderedDict), []) => {
                self.push_container(Container::Dict(Vec::new()));
            }
            (Value::Global(Global::RebuildTensor), arguments) => {
                self.stack
                    .push(Value::Tensor(Rc::new(TensorRecord::from_arguments(
                        arguments,
                    )?)));
            }
            _ => bail!("something is called that no file of tensors calls"),
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
