def write(*a):
    pass


def show(*a):
    print(a)
