/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What differs between the kernels that the guest driver supports, under the
 * names of capabilities.  The range of versions is stated here and nowhere
 * else in the source; a capability that stable updates changed in the middle
 * of a series is probed by Kbuild.
 */
#ifndef _LAZY_TSCDEADLINE_COMPAT_H
#define _LAZY_TSCDEADLINE_COMPAT_H

#include <linux/syscore_ops.h>
#include <linux/version.h>

#if LINUX_VERSION_MAJOR != 6 || \
	LINUX_VERSION_PATCHLEVEL < 1 || LINUX_VERSION_PATCHLEVEL > 12
#error "lazy_tscdeadline: supported kernels are 6.1 to 6.12"
#endif

#if !IS_ENABLED(CONFIG_X86_64) || !IS_ENABLED(CONFIG_KPROBES) || \
	!IS_ENABLED(CONFIG_KVM_GUEST)
#error "lazy_tscdeadline: needs CONFIG_X86_64, CONFIG_KPROBES, CONFIG_KVM_GUEST"
#endif

/*
 * LAZY_HAVE_STRUCT_SYSCORE (from Kbuild): the registered object is apart from
 * its operations, and the operations take a pointer.
 */
#ifdef LAZY_HAVE_STRUCT_SYSCORE

#define LAZY_DEFINE_SYSCORE(name, suspend_fn, resume_fn)	\
	static int name##_suspend(void *data)			\
	{							\
		return suspend_fn();				\
	}							\
	static void name##_resume(void *data)			\
	{							\
		resume_fn();					\
	}							\
	static const struct syscore_ops name##_ops = {		\
		.suspend	= name##_suspend,		\
		.resume		= name##_resume,		\
	};							\
	static struct syscore name = { .ops = &name##_ops }

#define lazy_register_syscore(syscore)		register_syscore(syscore)
#define lazy_unregister_syscore(syscore)	unregister_syscore(syscore)

#else

#define LAZY_DEFINE_SYSCORE(name, suspend_fn, resume_fn)	\
	static struct syscore_ops name = {			\
		.suspend	= suspend_fn,			\
		.resume		= resume_fn,			\
	}

#define lazy_register_syscore(syscore)		register_syscore_ops(syscore)
#define lazy_unregister_syscore(syscore)	unregister_syscore_ops(syscore)

#endif

#endif /* _LAZY_TSCDEADLINE_COMPAT_H */
