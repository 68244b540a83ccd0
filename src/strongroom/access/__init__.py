"""Who may do what, and who else must agree: principals, policy, approvals, sessions."""
