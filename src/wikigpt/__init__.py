"""wikigpt: pretrain a GPT from scratch on French Wikipedia, and understand every step.

Text flows one way, down this list, and a module imports only from the ones above it:

    config        what to do, typed
    corpus        where text comes from
    tokenizers    text <-> ids
    blocks        ids -> training batches
    model         ids -> logits
    evaluation    logits -> how good is it
    training      batches + model -> a trained model
    plots, cli    for people
"""
