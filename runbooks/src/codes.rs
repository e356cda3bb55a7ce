//! Every problem's code, stable for scripts and explained in `docs/language.md`. Which rule finds it is in the rule's own file.

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $name:ident = $code:literal;)+) => {
        $($(#[doc = $doc])+ pub const $name: &str = $code;)+

        /// Every code with what it stands for, in order.
        pub const ALL: &[(&str, &str)] = &[$(($code, concat!($($doc),+))),+];
    };
}

codes! {
    /// The text is not YAML.
    NOT_YAML = "LB001";
    /// A limit of the language is passed.
    LIMIT = "LB002";
    /// A character that people cannot see, or that reorders what they see.
    BAD_CHARACTER = "LB003";
    /// More than one document in a file.
    SECOND_DOCUMENT = "LB004";
    /// There is nothing in the file.
    EMPTY = "LB005";
    /// A key stands twice in one mapping.
    DUPLICATE_KEY = "LB006";
    /// A YAML tag.
    TAG = "LB007";
    /// A YAML anchor or alias.
    ANCHOR = "LB008";
    /// A YAML merge key.
    MERGE_KEY = "LB009";
    /// A key that is not a text.
    KEY_NOT_TEXT = "LB010";
    /// A key that nothing reads.
    UNKNOWN_KEY = "LB011";
    /// A key that must be there.
    MISSING_KEY = "LB012";
    /// A value of the wrong type.
    WRONG_TYPE = "LB013";
    /// A step type that does not exist.
    UNKNOWN_STEP_TYPE = "LB014";
    /// A value that is none of the allowed ones.
    NOT_ONE_OF = "LB015";
    /// A value that is too small, too large, too short or too long.
    OUT_OF_RANGE = "LB016";
    /// No length of time.
    BAD_DURATION = "LB017";
    /// A text of the wrong form.
    BAD_FORM = "LB018";
    /// A key without a value.
    BLANK = "LB019";
    /// A name that does not fit the grammar of names.
    BAD_NAME = "LB020";
    /// A name that is taken.
    DUPLICATE_ID = "LB021";
    /// A step that does not exist.
    UNKNOWN_STEP = "LB022";
    /// Steps that wait for each other in a circle.
    CYCLE = "LB023";
    /// A need that cannot be met or is named twice.
    BAD_NEED = "LB024";
    /// A mode that the runbook does not have.
    UNKNOWN_MODE = "LB025";
    /// A schedule that is no schedule.
    BAD_SCHEDULE = "LB026";
    /// The text between the marks is no expression.
    BAD_EXPRESSION = "LB030";
    /// A name that expressions do not know.
    UNKNOWN_NAME = "LB031";
    /// Types that do not go together inside an expression.
    EXPRESSION_TYPES = "LB032";
    /// A step that is not known to have ended when the expression is read.
    NOT_AN_ANCESTOR = "LB033";
    /// Something that may be absent is read without a default.
    MAY_BE_ABSENT = "LB034";
    /// A comparison with a value that can never occur.
    NEVER_EQUAL = "LB035";
    /// The answer of an expression does not fit its place.
    ANSWER_TYPE = "LB036";
    /// `${{` without `}}`.
    UNCLOSED = "LB037";
    /// YAML reads this differently from what was meant.
    QUOTE_IT = "LB038";
    /// A function or form outside the subset.
    NOT_IN_SUBSET = "LB039";
    /// A resource that the inventory does not have.
    UNKNOWN_RESOURCE = "LB040";
    /// A resource of the wrong kind.
    WRONG_KIND = "LB041";
    /// A node that the resource does not have.
    UNKNOWN_NODE = "LB042";
    /// A resource chosen by a step's output.
    RESOURCE_FROM_OUTPUT = "LB043";
    /// A role that nobody holds.
    UNKNOWN_ROLE = "LB044";
    /// A drill would change a resource that is closed to drills.
    DRILL_DENIED = "LB045";
    /// The stand-in of a resource cannot be used.
    BAD_STAND_IN = "LB046";
    /// Two steps may change one resource at the same time.
    UNORDERED_CHANGES = "LB047";
    /// Parameters that the step type refuses.
    BAD_PARAMETERS = "LB050";
    /// The mode is missing or unknown.
    BAD_MODE = "LB051";
    /// An input is missing, unknown or of the wrong type.
    BAD_INPUT = "LB052";
    /// The runbook of a child run cannot be had.
    NO_CHILD = "LB053";
    /// A runbook that runs itself, through its children or at once.
    CHILD_CIRCLE = "LB054";
    /// A key that means nothing on a step of this kind.
    NOT_HERE = "LB055";
    /// A list that is only known in the run, where it must be known before.
    LIST_IN_RUN = "LB056";
    /// A promotion without a fence before it.
    NO_FENCE = "LB061";
    /// Source and target are the same.
    SAME_PLACE = "LB062";
    /// A setting that has no effect.
    NO_EFFECT = "LB063";
    /// A test that contradicts itself or its runbook.
    BAD_TEST = "LB070";
    /// There are too many problems to show.
    TOO_MANY_PROBLEMS = "LB099";
}

#[cfg(test)]
mod tests {
    #[test]
    fn codes_are_distinct_and_in_order() {
        assert!(super::ALL.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }
}
