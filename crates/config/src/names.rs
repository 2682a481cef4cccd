//! Names that tables of one kind bear and others refer to them by.

use std::collections::HashMap;

use crate::problem::quoted;
use crate::read::Table;

pub(crate) struct Names {
    /// The section: `models`.
    what: &'static str,
    places: HashMap<String, usize>,
    names: Vec<String>,
    /// Some table's name cannot be read: a name that is not here may be meant for it.
    incomplete: bool,
}

impl Names {
    pub fn new(what: &'static str) -> Self {
        Self { what, places: HashMap::new(), names: Vec::new(), incomplete: false }
    }

    /// Takes the name of the next table, and reports one that another has already. Gives it back, or an empty text
    /// if there is none.
    pub fn add(&mut self, table: &Table<'_>, name: Option<String>) -> String {
        let place = self.names.len();
        self.names.push(name.clone().unwrap_or_default());
        let Some(name) = name else {
            self.incomplete = true;
            return String::new();
        };
        match self.places.get(&name) {
            Some(first) => {
                let found = format!("{}, which is the name of {}[{first}]", quoted(&name), self.what);
                table.problem("name", found, format!("another name for each of [[{}]]", self.what));
            }
            None => {
                self.places.insert(name.clone(), place);
            }
        }
        name
    }

    /// The names of all tables, in their order; empty where there is none.
    pub fn all(&self) -> &[String] {
        &self.names
    }

    /// The place of the table of this name.
    ///
    /// # Errors
    /// There is none; the names that there are, sorted. Empty if the name may belong to a table whose own cannot be
    /// read, which is reported already.
    pub fn find(&self, name: &str) -> Result<usize, Vec<&str>> {
        self.places.get(name).copied().ok_or_else(|| {
            if self.incomplete {
                return Vec::new();
            }
            let mut known: Vec<&str> = self.places.keys().map(String::as_str).collect();
            known.sort_unstable();
            known
        })
    }
}
