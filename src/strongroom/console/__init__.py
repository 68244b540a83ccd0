"""The control process: broker of weights, marks and budgets for the other processes, and the control API.

It alone holds the home and its operator's unlocked keys; gateway and engine get what they need over private links.
"""
