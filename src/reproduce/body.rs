//! What each process of a program does.

use std::fmt::Write as _;

use super::{Program, checks, order, plain, seen, statement};
use crate::kernel::call::{ActorId, Call};
use crate::kernel::names;
use crate::lab::expect::Expect;
use crate::lab::trace::Step;

impl Program<'_> {
    /// What one process does: its steps, and between them the turns of the others.
    pub(super) fn body(&self, actor: ActorId) -> Result<String, String> {
        let number = actor.0;
        let mut text = format!("\nstatic void process_{number}(void)\n{{\n");
        if number != 0 {
            let _ = writeln!(text, "\tpid[{number}] = getpid();\n\talarm(10);");
            if self.parent(actor) == ActorId(0) {
                text.push_str("\tsignal(SIGPIPE, SIG_DFL);\n");
            }
        }
        for (index, step) in self.steps.iter().enumerate() {
            let before = index.checked_sub(1).map_or(ActorId(0), |index| self.turn_after(index));
            let takes = self.turn_of(index) == actor;
            if takes && before != actor {
                let _ = writeln!(text, "\twait_turn({number});");
            }
            if self.is_second_look(index) || self.ends_inside(index) {
                if takes {
                    let _ = writeln!(text, "\n\t/* {} */", plain(&step.line()));
                    self.write_end(&mut text, index, step);
                }
            } else if step.actor == actor {
                self.write_step(&mut text, index, step)?;
            }
            if step.actor != actor && self.waiter(index) == Some(actor) {
                let _ = writeln!(text, "\twait_turn({number});");
                self.write_end(&mut text, index, step);
            }
            // The first process has the last turn: it sees to those that still wait.
            let next = if index + 1 < self.steps.len() { self.turn_of(index + 1) } else { ActorId(0) };
            if self.turn_after(index) == actor && next != actor {
                let _ = writeln!(text, "\tpass_to({});", next.0);
            }
            if takes && matches!(step.call, Call::ExecSelf) {
                let _ = write!(text, "}}\n\nstatic void process_{number}_after_{index}(void)\n{{\n");
            }
        }
        if number == 0 && self.steps.len().checked_sub(1).is_some_and(|last| self.turn_after(last) != actor) {
            text.push_str("\twait_turn(0);\n");
        }
        if number != 0 {
            let _ = writeln!(text, "\tstay({number});");
        } else if let Some((total, unit)) = self.shared() {
            let _ = writeln!(text, "\tmust_all_be_had({}, {total} / {unit});", self.steps.len());
        }
        text.push_str("}\n");
        Ok(text)
    }

    fn write_step(&self, text: &mut String, index: usize, step: &Step) -> Result<(), String> {
        let begins = order::is_beginning(step);
        let line = if begins { format!("{:?}: {} begins", step.actor, step.call) } else { step.line() };
        let _ = writeln!(text, "\n\t/* {} */", plain(&line));
        match &step.call {
            Call::Peer { .. } => return Ok(()),
            Call::Fork { actor, .. } => {
                let _ = write!(text, "\tif ((pid[{0}] = fork()) == 0)\n\t\tprocess_{0}();\n", actor.0);
                let _ = writeln!(
                    text,
                    "\tgot = pid[{0}], err = got < 0 ? errno : 0;\n\tmust({index}, got > 0, \"a child\");",
                    actor.0
                );
                return Ok(());
            }
            Call::Wait { .. } => {
                self.write_end(text, index, step);
                return Ok(());
            }
            Call::ExecSelf => {
                let _ = writeln!(text, "\tDO(execute_again({index}));\n\tfail({index}, \"another program\");");
                return Ok(());
            }
            _ => {}
        }
        // What may not come back hands the turn on before it begins.
        let waits = step.expect == Some(Expect::Blocked);
        if waits {
            let _ = writeln!(text, "\tinside[{}] = 1;", step.actor.0);
        }
        if let Some(waiter) = self.waiter(index) {
            let _ = writeln!(text, "\tpass_to({});", waiter.0);
        }
        if let Call::Exit { status } = step.call {
            let _ = writeln!(text, "\t_exit({status});");
            return Ok(());
        }
        if self.begun_before(index).is_none() {
            let statement = statement(step).ok_or_else(|| step.call.to_string())?;
            if checks::changes_nothing(step) {
                let _ = writeln!(
                    text,
                    "\t{{\n\t\tlong before = pages_in_use();\n\t\t{statement}\n\
                     \t\tmust({index}, !err || pages_in_use() == before, \"as many pages of address space as before\");\n\t}}"
                );
            } else {
                let _ = writeln!(text, "\t{statement}");
            }
        }
        match &step.expect {
            Some(Expect::Died(_)) => {
                let _ = writeln!(text, "\tfail({index}, \"death\");");
            }
            Some(Expect::Blocked) => {
                let _ = writeln!(text, "\tinside[{}] = 0;", step.actor.0);
            }
            _ => checks::write(text, index, step, &self.sources),
        }
        self.write_seen(text, index);
        Ok(())
    }

    /// What others rest on has to be as it was, and a relation that rests on all of them fails then.
    fn write_seen(&self, text: &mut String, index: usize) {
        if let Some(condition) = seen::condition(text, self, index) {
            let _ = writeln!(text, "\tas_seen({index}, {condition});");
        }
        self.write_departure(text, index);
    }

    fn write_departure(&self, text: &mut String, index: usize) {
        if let Some(words) = self.departed.filter(|_| index + 1 == self.steps.len()) {
            let _ = writeln!(text, "\tfail({index}, \"{}\");", checks::plain(words));
        }
    }

    fn write_end(&self, text: &mut String, index: usize, step: &Step) {
        let process = match step.call {
            Call::Wait { actor } => actor.0,
            _ => step.actor.0,
        };
        let line = match step.expect {
            Some(Expect::Died(signal)) => format!("must_end({index}, {process}, 1, {});", names::signal(signal)),
            Some(Expect::Exited(status)) => format!("must_end({index}, {process}, 0, {status});"),
            _ if order::is_beginning(step) => return,
            _ => format!("must_sleep({index}, {process});"),
        };
        let _ = writeln!(text, "\t{line}");
        self.write_departure(text, index);
    }
}
