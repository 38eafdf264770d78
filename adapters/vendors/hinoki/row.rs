//! One record of a request file: 25 columns, of which 19 may be masked.
//! `translate.rs` fills it, `folder.rs` writes it.
//! A column must never hold a value unless its mask says that it is set.
//! Read next: `folder.rs`.

/// 処理区分.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 新規登録.
    Register,
    /// 更新.
    Update,
    /// 状態変更.
    State,
}

impl Kind {
    fn code(self) -> &'static str {
        match self {
            Self::Register => "10",
            Self::Update => "20",
            Self::State => "30",
        }
    }
}

/// What happens to one masked column.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) enum Cell {
    /// Mask `0`.
    #[default]
    Untouched,
    /// Mask `1`, in CP932.
    Set(Vec<u8>),
    /// Mask `2`.
    Clear,
}

/// Number of the first masked column.
pub(super) const FIRST_MASKED: usize = 7;

/// Number of masked columns.
const MASKED: usize = 19;

/// Number of the first column of the state.
const FIRST_STATE: usize = 23;

/// Names of the 25 columns, from 1.
const NAMES: [&str; 25] = [
    "行番号",
    "処理キー",
    "処理区分",
    "宛名番号",
    "履歴番号",
    "項目マスク",
    "氏名カナ",
    "氏名",
    "通称カナ",
    "通称",
    "性別",
    "生年月日",
    "生年月日不詳表記",
    "国籍区分",
    "郵便番号",
    "住所１",
    "住所２",
    "住所３",
    "住定年月日",
    "住定年月日不詳表記",
    "世帯主宛名番号",
    "在留情報",
    "状態",
    "状態年月日",
    "状態年月日不詳表記",
];

/// Name of a column by its number.
pub(super) fn column_name(number: &str) -> &'static str {
    let index = number
        .parse::<usize>()
        .ok()
        .and_then(|number| number.checked_sub(1));
    index
        .and_then(|index| NAMES.get(index))
        .copied()
        .unwrap_or("")
}

/// A record without its line number and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Row {
    /// True when the person may be created.
    pub(super) creates: bool,
    /// 宛名番号.
    pub(super) person: String,
    /// 履歴番号.
    pub(super) version: u32,
    /// The masked columns; on the heap, since rows are moved about a lot.
    cells: Box<[Cell; MASKED]>,
}

impl Row {
    pub(super) fn new(person: String, version: u32, creates: bool) -> Self {
        Self {
            creates,
            person,
            version,
            cells: Default::default(),
        }
    }

    /// Sets a masked column by its number; an empty value clears it.
    pub(super) fn put(&mut self, column: usize, cell: Cell) {
        let cell = match cell {
            Cell::Set(value) if value.is_empty() => Cell::Clear,
            other => other,
        };
        if let Some(place) = self.cells.get_mut(column.wrapping_sub(FIRST_MASKED)) {
            *place = cell;
        }
    }

    /// 処理区分.
    pub(super) fn kind(&self) -> Kind {
        let touched = |cell: &&Cell| **cell != Cell::Untouched;
        let first_state = FIRST_STATE - FIRST_MASKED;
        if self.creates {
            Kind::Register
        } else if self
            .cells
            .iter()
            .take(first_state)
            .any(|cell| touched(&cell))
            || !self.cells.iter().any(|cell| touched(&cell))
        {
            Kind::Update
        } else {
            Kind::State
        }
    }

    /// 項目マスク.
    pub(super) fn mask(&self) -> String {
        let digit = |cell: &Cell| match cell {
            Cell::Untouched => '0',
            Cell::Set(_) => '1',
            Cell::Clear => '2',
        };
        self.cells.iter().map(digit).collect()
    }

    /// The 25 columns.
    pub(super) fn columns(&self, line: usize, key: &str) -> Vec<Vec<u8>> {
        let mut columns: Vec<Vec<u8>> = [
            format!("{line:06}"),
            key.to_owned(),
            self.kind().code().to_owned(),
            self.person.clone(),
            self.version.to_string(),
            self.mask(),
        ]
        .into_iter()
        .map(String::into_bytes)
        .collect();
        columns.extend(self.cells.iter().map(|cell| match cell {
            Cell::Set(value) => value.clone(),
            Cell::Untouched | Cell::Clear => Vec::new(),
        }));
        columns
    }
}
