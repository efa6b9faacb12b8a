/*
 * death.c - how workers die: the cause read off status and circumstances, the verdict on it, the last ones kept for
 * iis-pollerctl crashes. Called by slot.c; decides nothing about the job, that is errors.def's class.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <sysexits.h>

#include "common/sandbox.h"
#include "master/master.h"
#include "common/banned.h"

static const char *const cause_names[DEATH__MAX] = {
	[DEATH_CLEAN] = "clean", [DEATH_CONFIG] = "config", [DEATH_RESOURCE] = "resource",
	[DEATH_CRASH] = "crash", [DEATH_SANDBOX] = "sandbox", [DEATH_CPU] = "cpu",
	[DEATH_MEMORY] = "memory", [DEATH_DEADLINE] = "deadline", [DEATH_PROTOCOL] = "protocol",
	[DEATH_KILLED] = "killed", [DEATH_START] = "start", [DEATH_RECYCLED] = "recycled", [DEATH_EXCHANGED] = "exchanged",
	[DEATH_CANCELLED] = "cancelled", [DEATH_EXIT] = "exit",
};

const char *
death_cause_name(enum death_cause c)
{
	return cause_names[c];
}

enum death_cause
death_cause_of(int status)
{
	if (WIFEXITED(status)) {
		switch (WEXITSTATUS(status)) {
		case 0: return DEATH_CLEAN;
		case EX_CONFIG: return DEATH_CONFIG;
		case EX_OSERR: return DEATH_MEMORY;
		case EX_TEMPFAIL: return DEATH_RESOURCE;
		default: return DEATH_EXIT;
		}
	}
	switch (WTERMSIG(status)) {
	case SIGSEGV: case SIGABRT: case SIGBUS: case SIGILL: case SIGFPE: case SIGTRAP: return DEATH_CRASH;
	case SIGSYS: return DEATH_SANDBOX;
	case SIGXCPU: return DEATH_CPU;
	default: return DEATH_KILLED;
	}
}

enum err_class
death_class(enum death_cause c)
{
	switch (c) {
	case DEATH_CRASH: case DEATH_SANDBOX: case DEATH_CPU: case DEATH_MEMORY: return ERR_WORKER_CRASH;
	case DEATH_PROTOCOL: return ERR_WORKER_PROTOCOL;
	case DEATH_DEADLINE: return ERR_TIMEOUT;
	case DEATH_CANCELLED: return ERR_CANCELLED;
	default: return ERR_WORKER_LOST;
	}
}

static void
verdict_fill(const struct slot *s, int status, struct verdict *v)
{
	*v = (struct verdict){
		.pid = (int)s->proc.pid,
		.signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0,
		.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : -1,
		.cpu_seconds = (double)s->usage.ru_utime.tv_sec + (double)s->usage.ru_stime.tv_sec
		    + (double)(s->usage.ru_utime.tv_usec + s->usage.ru_stime.tv_usec) / 1e6,
		.max_rss_bytes = (int64_t)s->usage.ru_maxrss * 1024,
		.phase = s->task && s->task->state == TASK_RUNNING ? (s->listed ? PHASE_LIST : PHASE_OPEN) : PHASE_START,
	};
	snprintf(v->stderr_tail, sizeof(v->stderr_tail), "%s", s->err_tail);
}

/* The call that its filter refused; the arguments go to the log alone, since one may be an address. */
static void
name_call(const struct slot *s, struct verdict *v)
{
	struct refused r;
	char *name, args[80];

	refused_read(s->proc.refused_fd, &r);
	if (r.nr <= 0)
		return;
	name = refused_name(r.nr);
	v->syscall = r.nr;
	snprintf(v->syscall_name, sizeof(v->syscall_name), "%s", name ? name : "");
	free(name);
	snprintf(args, sizeof(args), "%#llx, %#llx, %#llx", (unsigned long long)r.args[0], (unsigned long long)r.args[1],
	    (unsigned long long)r.args[2]);
	LOG(LOG_ERROR, "sandbox_refused", LI("slot", s->index), LI("pid", v->pid), LS("role", worker_role_name(s->role)),
	    LI("syscall", v->syscall), LS("name", v->syscall_name), LS("arguments", args),
	    LS("todo", "a fault of a library or a worker that was taken over: keep this line and look at the job's source"));
}

static void
death_text(const struct slot *s, enum death_cause cause, const struct verdict *v, char *out, size_t n)
{
	if (cause == DEATH_PROTOCOL)
		snprintf(out, n, "worker %d was killed: it broke the frame rules: %s", v->pid, s->err_tail);
	else if (cause == DEATH_DEADLINE)
		snprintf(out, n, "worker %d did not end within the deadline", v->pid);
	else if (cause == DEATH_START)
		snprintf(out, n, "worker %d was not READY in time", v->pid);
	else if (v->syscall)
		snprintf(out, n, "worker %d was stopped by its sandbox: it called %s (%d)", v->pid,
		    v->syscall_name[0] ? v->syscall_name : "an unknown system call", v->syscall);
	else if (cause == DEATH_SANDBOX)
		snprintf(out, n, "worker %d was killed by its sandbox (SIGSYS) for a call that is never legal; the kernel's log names it", v->pid);
	else if (v->signal)
		snprintf(out, n, "worker %d died of signal %d (%s)", v->pid, v->signal, strsignal(v->signal));
	else
		snprintf(out, n, "worker %d ended with exit code %d%s", v->pid, v->exit_code,
		    v->exit_code == EX_OSERR ? " (out of memory)" : "");
}

static void
name_job(struct death *d, const struct task *t)
{
	const struct jobrec *rec = t->job;

	snprintf(d->job_id, sizeof(d->job_id), "%s", rec->job_id);
	snprintf(d->org_id, sizeof(d->org_id), "%s", rec->org_id);
	snprintf(d->source_type, sizeof(d->source_type), "%s", source_rows[rec->job->sources[t->index].type].name);
}

const struct death *
death_record(struct deaths *all, const struct slot *s, enum death_cause cause, int status)
{
	struct death *d = &all->kept[all->n++ % DEATHS_KEPT];
	const struct verdict *v = &d->verdict;

	*d = (struct death){ .at_ns = clock_real_ns(), .slot = s->index, .generation = s->generation, .cause = cause };
	verdict_fill(s, status, &d->verdict);
	if (cause == DEATH_SANDBOX)
		name_call(s, &d->verdict);
	death_text(s, cause, v, d->text, sizeof(d->text));
	if (s->task)
		name_job(d, s->task);
	metric_add(METRIC_WORKER_RESTARTS, 1, cause_names[cause], NULL);
	LOG(cause == DEATH_CLEAN || cause == DEATH_RECYCLED || cause == DEATH_EXCHANGED ? LOG_INFO : LOG_WARN, "worker_died", LI("slot", s->index), LI("pid", v->pid),
	    LS("cause", cause_names[cause]), LI("signal", v->signal), LI("exit_code", v->exit_code),
	    LS("job_id", s->task ? d->job_id : NULL), LS("text", d->text));
	return d;
}

const struct death *
deaths_get(const struct deaths *all, size_t i)
{
	if (i >= all->n || i >= DEATHS_KEPT)
		return NULL;
	return &all->kept[(all->n - 1 - i) % DEATHS_KEPT];
}
